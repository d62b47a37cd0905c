"""Values as text: for people, for log handlers, and for columns that cannot hold all of it."""
