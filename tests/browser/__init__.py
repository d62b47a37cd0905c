"""What people see: the example site, served for real, in a real browser."""
