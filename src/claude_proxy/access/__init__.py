"""Who may use the proxy: client keys, host names, web origins, body sizes."""
