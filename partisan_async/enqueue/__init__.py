"""What ``delay()`` does, on Django's connection: encodes a call, inserts a row, wakes somebody."""
