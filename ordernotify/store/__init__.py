"""What is remembered: PostgreSQL tables, and the questions and writes that speak core values."""
