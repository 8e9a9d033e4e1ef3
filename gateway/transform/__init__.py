"""From the definitions of an endpoint to what is done with each request and answer: rules, paths, bodies, credentials. Compiled once, used by the filters."""
