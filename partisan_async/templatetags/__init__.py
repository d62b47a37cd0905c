"""The template filters of the admin's pages."""
