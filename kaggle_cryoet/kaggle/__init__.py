"""What is particular to Kaggle."""
