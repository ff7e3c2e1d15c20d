"""Networks, and the folders they are kept in."""
