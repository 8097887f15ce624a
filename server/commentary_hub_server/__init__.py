"""The hub: a service that today's Hugging Face clients push to and pull from, unmodified. It never loads torch."""
