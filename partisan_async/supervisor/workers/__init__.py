"""The worker processes as their supervisor sees them: started, fed, replaced, ended."""
