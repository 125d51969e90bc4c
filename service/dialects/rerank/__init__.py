"""Two dialects of one question, which titles match the query best: Jina's /v1/rerank and Cohere's /v2/rerank."""
