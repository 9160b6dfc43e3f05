"""The shared vocabulary of Regent: records, configuration, store and how to speak with models."""
