"""Language models from plain text: trained, measured, and their surprise shown."""
