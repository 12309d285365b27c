# nomad job run -var image=registry.example.com/claude-proxy:0.1.0 -var count=2 deploy/nomad/claude-proxy.nomad.hcl
# Build and push the image first: see docs/kubernetes.md. Nomad 1.4 or newer.
#
# Each client that runs it needs this in its own configuration, or streams are cut 30 seconds after a stop, whatever kill_timeout says:
#   client { max_kill_timeout = "620s" }

variable "image" {
  type    = string
  default = "claude-proxy:0.1.0"
}

variable "count" {
  type    = number
  default = 1
}

variable "base_url" {
  type    = string
  default = "https://api.z.ai/api/anthropic"
}

job "claude-proxy" {
  type = "service"

  # A new allocation is healthy before an old one is stopped.
  update {
    max_parallel     = 1
    canary           = 1
    auto_promote     = true
    auto_revert      = true
    health_check     = "checks"
    min_healthy_time = "5s"
    healthy_deadline = "2m"
  }

  group "proxy" {
    count = var.count

    network {
      port "http" {
        to = 3000
      }
    }

    service {
      name     = "claude-proxy"
      port     = "http"
      provider = "nomad"

      check {
        type     = "http"
        path     = "/ready"
        interval = "5s"
        timeout  = "3s"
      }
    }

    task "proxy" {
      driver = "docker"

      config {
        image           = var.image
        ports           = ["http"]
        readonly_rootfs = true
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges:true"]

        mount {
          type   = "tmpfs"
          target = "/tmp"
        }
      }

      env {
        BASE_URL         = var.base_url
        DATA_DIR         = "${NOMAD_ALLOC_DIR}/data"
        LOG_FORMAT       = "json"
        GRACEFUL_TIMEOUT = "600"
      }

      # A credential that the proxy sends instead of the client's: nomad var put nomad/jobs/claude-proxy upstream_api_key=... proxy_api_key=...
      # Without nomadVarExists the start would wait forever for a missing variable.
      template {
        destination = "${NOMAD_SECRETS_DIR}/keys.env"
        env         = true
        data        = <<-EOF
          {{- if nomadVarExists "nomad/jobs/claude-proxy" }}
          {{- with nomadVar "nomad/jobs/claude-proxy" }}
          {{- with .upstream_api_key.Value }}
          UPSTREAM_API_KEY={{ . }}
          {{- end }}
          {{- with .proxy_api_key.Value }}
          PROXY_API_KEY={{ . }}
          {{- end }}
          {{- with .admin_token.Value }}
          ADMIN_TOKEN={{ . }}
          {{- end }}
          {{- with .ntfy_token.Value }}
          NTFY_TOKEN={{ . }}
          {{- end }}
          {{- end }}
          {{- end }}
        EOF
      }

      # It is first deregistered, then stopped, and then has time to finish its streams (max_kill_timeout: see the top).
      shutdown_delay = "5s"
      kill_timeout   = "620s"

      resources {
        cpu        = 100
        memory     = 128
        memory_max = 384
      }
    }
  }
}
