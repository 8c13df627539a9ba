// SPDX-License-Identifier: Apache-2.0

// Package cli is tsugictl's command tree: flags in, packages called, results
// out. Commands hold no logic of their own: what they know how to do is in
// the packages below, and what they print is made in package ui.
//
// Every command has a file, a constructor newXCommand and a thin RunE. What
// all programs share is package command; exit codes are in exit.go and
// docs/exit-codes.md.
package cli

import (
	"context"

	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/userland"
)

// program is the name that errors and help go by.
const program = "tsugictl"

// app is what commands share.
type app struct {
	*command.App
	home string // directory of the caches; "" for the environment's
}

// Main runs tsugictl and returns its exit code.
func Main(ctx context.Context, args []string, streams command.Streams) int {
	a := newApp(streams)
	return a.Run(ctx, newRootCommand(a), args)
}

func newApp(streams command.Streams) *app {
	a := &app{App: command.New(program, streams)}
	a.Exit = exitCode
	return a
}

// store opens the store of --home, or of the environment.
func (a *app) store() (*kernel.Store, error) {
	home, err := a.homeDir()
	if err != nil {
		return nil, err
	}
	return kernel.OpenStore(home)
}

// packages opens the store of targets that are packages.
func (a *app) packages() (*userland.Store, error) {
	home, err := a.homeDir()
	if err != nil {
		return nil, err
	}
	return userland.OpenStore(home)
}

func (a *app) homeDir() (string, error) {
	if a.home != "" {
		return a.home, nil
	}
	return kernel.Home()
}
