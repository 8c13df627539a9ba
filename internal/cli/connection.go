// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
)

// connection is what login keeps: the server, its CA, and one of two secrets.
type connection struct {
	URL     string `json:"url"`
	CA      string `json:"ca,omitempty"`      // PEM; "" trusts what the system trusts
	Token   string `json:"token,omitempty"`   // an API key
	Session string `json:"session,omitempty"` // of a person who signed in
	User    string `json:"user,omitempty"`    // who that is
}

// connectionFile is where it lies, for its owner only.
func connectionFile() (string, error) {
	if f := os.Getenv("TSUGI_SESSION"); f != "" {
		return f, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", code.New("TS1902", "the user's configuration directory", err.Error())
	}
	return filepath.Join(dir, "tsugi", "session.json"), nil
}

// kept is the connection that login kept, and its file. TS7615 if there is none.
func kept() (connection, string, error) {
	var c connection
	path, err := connectionFile()
	if err != nil {
		return c, path, err
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, path, code.New("TS7615", "", "")
	}
	if err != nil {
		return c, path, command.FileProblem("TS1902", path, err)
	}
	if err := json.Unmarshal(b, &c); err != nil || c.URL == "" {
		return connection{}, path, code.New("TS7615", path, "it is not a session that tsugictl wrote")
	}
	return c, path, nil
}

// keep writes a connection to its file, which it returns.
func (c connection) keep() (string, error) {
	path, err := connectionFile()
	if err != nil {
		return path, err
	}
	b, err := json.Marshal(c)
	if err != nil {
		return path, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return path, command.FileProblem("TS1903", path, err)
	}
	if err := renameio.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return path, command.FileProblem("TS1903", path, err)
	}
	return path, nil
}

// server is the client of the server that login chose. What needs a fresh proof
// of who somebody is has it asked for on the terminal.
func (a *app) server() (*client.Client, error) {
	c, _, err := kept()
	if err != nil {
		return nil, err
	}
	return c.client(a.proveAgain(c))
}

func (c connection) client(prove func(context.Context) error) (*client.Client, error) {
	httpc, err := client.NewHTTP(client.HTTPOptions{CA: []byte(c.CA)})
	if err != nil {
		return nil, err
	}
	o := client.Options{URL: c.URL, Credential: c.Token, Session: c.Session, HTTP: httpc, UserAgent: command.Maker(), Prove: prove}
	if host, err := os.Hostname(); c.Token == "" && err == nil {
		o.UserAgent = program + " on " + host // as people see it in the list of their sessions
	}
	return client.New(o)
}

// proveAgain asks who is signed in for their password once more, on the
// terminal only: standard input may be a command's.
func (a *app) proveAgain(c connection) func(context.Context) error {
	if c.Session == "" {
		return nil
	}
	return func(ctx context.Context) error {
		a.Term.Say("This needs a proof of who you are.")
		password, err := a.Ask(ctx, "Password of "+c.User+": ")
		if errors.Is(err, command.ErrNobodyToAsk) {
			return code.New("TS8206", c.User, "there is no terminal to ask for the password on").WithFix("log in anew: what you do shortly after it needs no further proof")
		}
		if err != nil {
			return err
		}
		server, err := c.client(nil)
		if err != nil {
			return err
		}
		return withFactor(ctx, a.Ask, func(factor string) error {
			return server.ConfirmIdentity(ctx, api.ConfirmIdentity{Password: password, Code: factor})
		})
	}
}

// withFactor tries without a second factor, and asks for one if it is needed.
func withFactor(ctx context.Context, ask func(context.Context, string) (string, error), try func(factor string) error) error {
	err := try("")
	if code.Of(err) != "TS8210" {
		return err
	}
	factor, problem := ask(ctx, "Code of your second factor, or a recovery code: ")
	if errors.Is(problem, command.ErrNobodyToAsk) {
		return err
	}
	if problem != nil {
		return problem
	}
	return try(factor)
}
