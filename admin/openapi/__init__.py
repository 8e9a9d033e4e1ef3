"""OpenAPI 3.1 documents that we write: of the admin API and of each connector, and the page that shows them."""
