"""What a supervisor reports: counts, metrics, health, and messages to the service manager."""
