"""Speed, cost and scores of the package beside a plain re-statement of the public YOLO + U-Net notebook."""
