"""Mails to the site's managers: a reusable app that knows Django's task API and no runner."""
