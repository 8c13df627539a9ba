// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
)

// session is what login keeps: the server, its CA and a secret.
type session struct {
	URL   string `json:"url"`
	CA    string `json:"ca,omitempty"` // PEM; "" trusts what the system trusts
	Token string `json:"token"`
}

// sessionFile is where the session lies, for its owner only.
func sessionFile() (string, error) {
	if f := os.Getenv("TSUGI_SESSION"); f != "" {
		return f, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", code.New("TS1902", "the user's configuration directory", err.Error())
	}
	return filepath.Join(dir, "tsugi", "session.json"), nil
}

// server is the client of the server that login chose.
func (a *app) server() (*client.Client, error) {
	path, err := sessionFile()
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, code.New("TS7615", "", "")
	}
	if err != nil {
		return nil, command.FileProblem("TS1902", path, err)
	}
	var s session
	if err := json.Unmarshal(b, &s); err != nil || s.URL == "" {
		return nil, code.New("TS7615", path, "it is not a session that tsugictl wrote")
	}
	return s.client()
}

func (s session) client() (*client.Client, error) {
	httpc, err := client.NewHTTP(client.HTTPOptions{CA: []byte(s.CA)})
	if err != nil {
		return nil, err
	}
	return client.New(client.Options{URL: s.URL, Credential: s.Token, HTTP: httpc, UserAgent: command.Maker()})
}

func newLoginCommand(a *app) *cobra.Command {
	var ca, digest, tokenFile string
	cmd := &cobra.Command{
		Use:   "login URL",
		Short: "Choose the server that the fleet's commands talk to",
		Long: `login keeps the URL of a server, the certificate of its CA and an operator's
token in a file that only you can read. tsugi-server init prints the first
token; tsugictl operator new makes more.

The token is read from standard input or from --token-file, never from the
command line, where others could see it. A fleet's own CA is fetched from the
server and believed only if its SHA-256 is the one given with --ca-sha256; a
file that you have is given with --ca.`,
		Example: `  tsugictl login https://tsugi.example.net:8443 --ca-sha256 3f9a… <token
  tsugictl login https://tsugi.example.net --token-file ~/token`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s := session{URL: strings.TrimSuffix(args[0], "/")}
			b, err := a.ReadFile(orStdin(tokenFile))
			if err != nil {
				return err
			}
			if s.Token = strings.TrimSpace(string(b)); s.Token == "" {
				return command.Usage(program+" login", "the token is empty")
			}
			if s.CA, err = a.caOf(cmd.Context(), s.URL, ca, digest); err != nil {
				return err
			}
			return a.login(cmd.Context(), s)
		},
	}
	f := cmd.Flags()
	f.StringVar(&ca, "ca", "", "PEM file with the certificate of the server's CA")
	f.StringVar(&digest, "ca-sha256", "", "SHA-256 of the CA certificate, in hex, as tsugi-server init tells it")
	f.StringVar(&tokenFile, "token-file", "", "file with the operator's token (default standard input)")
	return cmd
}

func orStdin(path string) string {
	if path == "" {
		return "-"
	}
	return path
}

// caOf returns the PEM of the CA to believe; "" for the system's.
func (a *app) caOf(ctx context.Context, url, file, digest string) (string, error) {
	switch {
	case file != "":
		b, err := a.ReadFile(file)
		return string(b), err
	case digest != "":
		pem, err := client.FetchCA(ctx, url, digest, "")
		return string(pem), err
	}
	return "", nil
}

// login asks the server before it keeps anything.
func (a *app) login(ctx context.Context, s session) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	who, err := c.Whoami(ctx)
	if err != nil {
		return err
	}
	path, err := sessionFile()
	if err != nil {
		return err
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return command.FileProblem("TS1903", path, err)
	}
	if err := renameio.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return command.FileProblem("TS1903", path, err)
	}
	return a.Show("login", loginResult{URL: s.URL, File: path, Whoami: *who}, func() string {
		return "logged in to " + s.URL + " as " + who.Name + " (" + who.Role + ")\n"
	})
}

type loginResult struct {
	URL  string `json:"url"`
	File string `json:"file"`
	api.Whoami
}

func newLogoutCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "logout",
		Short: "Forget the server and its token on this computer",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			path, err := sessionFile()
			if err != nil {
				return err
			}
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return command.FileProblem("TS1903", path, err)
			}
			return a.Show("logout", struct {
				File string `json:"file"`
			}{path}, func() string { return "" })
		},
	}
}
