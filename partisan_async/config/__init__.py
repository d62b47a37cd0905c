"""What a processor may set about retries and postpones."""
