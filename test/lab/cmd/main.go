// Command lab boots a few systemd hosts for a person to play with.
//
//	lab up [HOST...]          boot the hosts (h1 h2 h3) and hold them until interrupted
//	lab exec HOST [COMMAND]   run a command, or a shell, on a host of the lab
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/meshd/meshd/test/lab"
)

const binary = "bin/meshd"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) >= 1 && args[0] == "up":
		return up(args[1:])
	case len(args) == 2 && args[0] == "exec":
		return lab.Enter(args[1], "bash", "--login")
	case len(args) > 2 && args[0] == "exec":
		return lab.Enter(args[1], args[2:]...)
	}
	return errors.New("usage: lab up [HOST...] | lab exec HOST [COMMAND...]")
}

func up(names []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(names) == 0 {
		names = []string{"h1", "h2", "h3"}
	}
	l, err := lab.Start(ctx, lab.Options{Hosts: names, Logf: func(format string, args ...any) {
		fmt.Printf(format+"\n", args...)
	}})
	if err != nil {
		return err
	}
	if err := install(l); err != nil {
		return errors.Join(err, l.Close())
	}
	fmt.Println("In another terminal, as root:  make lab-exec H=" + names[0] + "   Here: Ctrl-C ends the lab.")
	<-ctx.Done()
	return l.Close()
}

func install(l *lab.Lab) error {
	for _, h := range l.Hosts() {
		if err := h.CopyFile(binary, "/usr/local/bin/meshd", 0o755); err != nil {
			return fmt.Errorf("installing meshd on %s (run `make build` first): %w", h.Name, err)
		}
		fmt.Printf("%s is up at %s\n", h.Name, h.Address)
	}
	return nil
}
