#!/usr/bin/env bash
# nomad-check.sh : Nomad's own parser reads the job file, strictly. Built once from the Go module proxy (about a minute), kept
# in the user's cache. Exit 77 with the reason where there is no Go and none can be had.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
KEEP=${XDG_CACHE_HOME:-$HOME/.cache}/claude-proxy/nomad-jobcheck-1.7.2
if [ ! -x "$KEEP" ]; then
    go=$("$HERE/../go-binary.sh") || { echo "nomad-check: no Go on this machine, and none can be had"; exit 77; }
    work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
    printf 'module jobcheck\n\ngo 1.24\n' >go.mod
    cat >main.go <<'GO'
package main

import (
	"fmt"
	"os"

	"github.com/hashicorp/nomad/jobspec2"
)

func main() {
	body, err := os.ReadFile(os.Args[1])
	if err == nil {
		_, err = jobspec2.ParseWithConfig(&jobspec2.ParseConfig{Path: os.Args[1], Body: body, Strict: true})
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
GO
    "$go" get github.com/hashicorp/nomad@v1.7.2 github.com/hashicorp/nomad/api@v0.0.0-20231213195942-64e3dca9274b >log 2>&1 || { tail -3 log; exit 77; }
    nice -n 10 "$go" build -o jobcheck .
    mkdir -p "$(dirname "$KEEP")"; mv jobcheck "$KEEP"
fi
cd "$HERE/../.."
"$KEEP" deploy/nomad/claude-proxy.nomad.hcl
echo "ok    deploy/nomad/claude-proxy.nomad.hcl"
