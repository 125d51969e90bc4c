"""text-embeddings-inference's dialect: /embed, /similarity, /rerank, /predict, /tokenize, /info and /health."""
