"""What ``delay()`` does on Django's connection: encode a call, insert it, wake supervisors."""
