"""Where requests from outside arrive: webhooks, the JSON API, health."""
