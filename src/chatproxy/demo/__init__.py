"""A demonstration on one machine: a small chat backend, a few people, and what is kept of them."""
