"""One file per migration, numbered; `schema.VERSIONS` lists them."""
