"""How to speak with a language model (sample, score, look inside), serve it and fine-tune it."""
