// SPDX-License-Identifier: Apache-2.0

// Package servercli is tsugi-server's command tree: it makes a server's
// directory, puts the packages of the service together and runs them. What
// the service does is in the packages below; what it is configured with, in
// package config.
package servercli

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/command/man"
	"github.com/tsugi-project/tsugi/internal/servercli/config"
)

const (
	program    = "tsugi-server"
	defaultDir = "/var/lib/tsugi-server"
)

// app is what the commands share.
type app struct {
	*command.App
	dir, config string
}

// Main runs tsugi-server and returns its exit status.
func Main(ctx context.Context, args []string, streams command.Streams) int {
	// What a server writes is nobody else's to read.
	unix.Umask(0o027)
	a := &app{App: command.New(program, streams)}
	return a.Run(ctx, newRootCommand(a), args)
}

func newRootCommand(a *app) *cobra.Command {
	root := a.Root("The Tsugi service: hands live patches to machines", `tsugi-server publishes live patches, hands them to enrolled machines and hears
what became of them. It builds and proves them as well, in its own process or
on other hosts.

A server is two commands away:

  tsugi-server init --url https://patches.example.org:8443
  tsugi-server serve

Everything it keeps is in one directory, or in PostgreSQL and an S3-compatible
store when it is configured so. Settings come from server.yaml in the
directory, from the environment (TSUGI_SERVER_TLS_MODE is tls.mode) and from
flags, each overriding the one before: tsugi-server config shows what is in
force.

Exit codes:
  0    done
  1    an error: the command could not do its work
  4    the command line is not understood
  130  interrupted`)
	f := root.PersistentFlags()
	f.StringVarP(&a.dir, "dir", "d", a.defaultDir(), "directory of the server (or $TSUGI_SERVER_DIR)")
	f.StringVar(&a.config, "config", "", "configuration file (default server.yaml in the directory)")
	command.Group(root, "Running a server:",
		newInitCommand(a), newServeCommand(a), newWorkerCommand(a))
	command.Group(root, "Looking after it:",
		newStatusCommand(a), newConfigCommand(a), newUserCommand(a), newOperatorCommand(a), newAuditCommand(a), newCACommand(a),
		newBackupCommand(a), newRestoreCommand(a))
	command.Group(root, "About the program:", a.Codes(), a.Version())
	root.AddCommand(man.Command())
	return command.Finish(root)
}

// defaultDir is $TSUGI_SERVER_DIR or the directory of the package's service.
func (a *app) defaultDir() string {
	for _, e := range slices.Backward(a.Streams.Environ) {
		if v, ok := strings.CutPrefix(e, config.EnvPrefix+"DIR="); ok && v != "" {
			return v
		}
	}
	return defaultDir
}

// load reads the configuration of a server that was made before.
func (a *app) load(cmd *cobra.Command) (*config.Config, error) {
	if a.config == "" && !exists(a.dir, config.FileName) {
		return nil, code.New("TS7804", a.dir, "there is no "+config.FileName)
	}
	return config.Load(config.Sources{Dir: a.dir, File: a.config, Environ: a.Streams.Environ, Flags: cmd.Flags()})
}

// settings adds flags that override single keys of the configuration.
func settings(cmd *cobra.Command) {
	f := cmd.Flags()
	f.String("url", "", "where machines reach the service, as https://HOST:PORT")
	f.String("listen", "", "address to listen on, as [ADDRESS]:PORT (default the port of the URL)")
	f.String("database", "", "sqlite:FILE or postgres://…")
	f.String("tls-mode", "", "own, files, acme or off")
	f.Int("workers-count", 0, "build workers in this process")
	f.String("workers-home", "", "directory of the workers' kernels and objects")
	f.String("log-level", "", "debug, info, warn or error")
	f.String("log-format", "", "auto, json or text")
}
