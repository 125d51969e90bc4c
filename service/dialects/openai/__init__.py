"""OpenAI's dialect: /v1/embeddings and /v1/models."""
