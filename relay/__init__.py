"""A relay between code editors and AnythingLLM: answers appear as they are written."""
