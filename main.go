// Command meshd is a service mesh for machines run by systemd.
package main

import (
	"os"

	"github.com/meshd/meshd/internal/cli"
)

func main() { os.Exit(cli.Main()) }
