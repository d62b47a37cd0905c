"""What a supervisor tells of itself: counts, metrics, health, and the service manager."""
