// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
)

// loginFlags say how somebody logs in.
type loginFlags struct {
	ca, digest, tokenFile, user string
	link                        bool
}

func newLoginCommand(a *app) *cobra.Command {
	var o loginFlags
	cmd := &cobra.Command{
		Use:   "login URL",
		Short: "Choose the server that the fleet's commands talk to",
		Long: `login keeps the URL of a server, the certificate of its CA and a secret in a
file that only you can read. The secret is one of two:

An API key, a person's or a program's, that is read from standard input or from
--token-file. tsugi-server init prints the first one; tsugictl operator new
makes those of programs, tsugictl account key new one's own.

With --user or --link, a session: you sign in as in a browser, with your
password and the code of your second factor, or with the link that somebody
gave you. That can do what a key can't: your own account, and what asks for a
proof of who you are a moment ago, which is asked for again when it is needed.
A session ends by itself when it is not used, and with tsugictl logout.
Passkeys and the accounts of other providers need a browser: who has nothing
else makes an API key in the console.

What is secret is asked for on the terminal, or read from standard input, a
line each, and never from the command line, where others could see it. A fleet's
own CA is fetched from the server and believed only if its SHA-256 is the one
given with --ca-sha256; a file that you have is given with --ca.`,
		Example: `  tsugictl login https://tsugi.example.net:8443 --ca-sha256 3f9a… <token
  tsugictl login https://tsugi.example.net --user alice`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.login(cmd, args[0], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.ca, "ca", "", "PEM file with the certificate of the server's CA")
	f.StringVar(&o.digest, "ca-sha256", "", "SHA-256 of the CA certificate, in hex, as tsugi-server init tells it")
	f.StringVar(&o.tokenFile, "token-file", "", "file with the API key (default standard input)")
	f.StringVar(&o.user, "user", "", "sign in as this user")
	f.BoolVar(&o.link, "link", false, "sign in with a link that somebody made for you")
	cmd.MarkFlagsMutuallyExclusive("user", "link", "token-file")
	return cmd
}

type loginResult struct {
	URL  string `json:"url"`
	File string `json:"file"`
	api.Whoami
}

// login asks the server before it keeps anything.
func (a *app) login(cmd *cobra.Command, url string, o loginFlags) error {
	ctx := cmd.Context()
	c := connection{URL: strings.TrimSuffix(url, "/")}
	var err error
	if c.CA, err = a.caOf(ctx, c.URL, o.ca, o.digest); err != nil {
		return err
	}
	switch {
	case o.user != "":
		c, err = a.signIn(cmd, c, o.user)
	case o.link:
		c, err = a.comeIn(cmd, c)
	default:
		c.Token, err = a.token(cmd, o.tokenFile)
	}
	if err != nil {
		return err
	}
	server, err := c.client(nil)
	if err != nil {
		return err
	}
	who, err := server.Whoami(ctx)
	if err != nil {
		return err
	}
	before, _, _ := kept() // if there is none, there is nothing to end
	path, err := c.keep()
	if err != nil {
		return err
	}
	_ = before.end(ctx) // if that fails it ends by itself, unused
	return a.Show("login", loginResult{URL: c.URL, File: path, Whoami: *who}, func() string {
		return "logged in to " + c.URL + " as " + who.Name + " (" + who.Role + ")\n"
	})
}

func (a *app) token(cmd *cobra.Command, file string) (string, error) {
	if file == "" {
		file = "-"
	}
	b, err := a.ReadFile(file)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", command.Usage(cmd.CommandPath(), "the token is empty")
	}
	return token, nil
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

// signIn makes a session of a connection, with a password.
func (a *app) signIn(cmd *cobra.Command, c connection, user string) (connection, error) {
	server, err := c.client(nil)
	if err != nil {
		return c, err
	}
	password, err := a.answer(cmd, "Password of "+user+": ")
	if err != nil {
		return c, err
	}
	err = withFactor(cmd.Context(), a.Answer, func(factor string) error {
		who, secret, err := server.SignIn(cmd.Context(), api.SignIn{Name: user, Password: password, Code: factor})
		if err == nil {
			c.Session, c.User = secret, who.Name
		}
		return err
	})
	return c, err
}

// comeIn makes a session of a connection, with a link.
func (a *app) comeIn(cmd *cobra.Command, c connection) (connection, error) {
	server, err := c.client(nil)
	if err != nil {
		return c, err
	}
	link, err := a.answer(cmd, "Link: ")
	if err != nil {
		return c, err
	}
	in := api.RedeemLink{Secret: strings.TrimSpace(link)}
	if _, secret, ok := strings.Cut(in.Secret, "#"); ok {
		in.Secret = secret
	}
	shown, err := server.LookAtLink(cmd.Context(), in.Secret)
	if err != nil {
		return c, err
	}
	if shown.Password {
		if in.Password, err = a.newPassword(cmd, shown.Name); err != nil {
			return c, err
		}
	}
	err = withFactor(cmd.Context(), a.Answer, func(factor string) error {
		in.Code = factor
		who, secret, err := server.RedeemLink(cmd.Context(), in)
		if err == nil {
			c.Session, c.User = secret, who.Name
		}
		return err
	})
	return c, err
}

// answer asks on the terminal, or reads a line of standard input.
func (a *app) answer(cmd *cobra.Command, prompt string) (string, error) {
	s, err := a.Answer(cmd.Context(), prompt)
	if errors.Is(err, command.ErrNobodyToAsk) {
		return "", command.Usage(cmd.CommandPath(), "there is no terminal, and no line on standard input: "+strings.TrimSuffix(prompt, ": "))
	}
	return s, err
}

// newPassword asks for a new password twice.
func (a *app) newPassword(cmd *cobra.Command, user string) (string, error) {
	first, err := a.answer(cmd, "New password of "+user+": ")
	if err != nil {
		return "", err
	}
	second, err := a.answer(cmd, "Again: ")
	if err == nil && first != second {
		err = code.New("TS8213", "", "the two differ").WithFix("try again")
	}
	return first, err
}

// end ends the session of a connection at the server, if it has one there.
func (c connection) end(ctx context.Context) error {
	if c.Session == "" {
		return nil
	}
	server, err := c.client(nil)
	if err != nil {
		return err
	}
	if err = server.SignOut(ctx); code.Of(err) == "TS8201" {
		return nil // it is over already
	}
	return err
}

func newLogoutCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "logout",
		Short: "End the session, and forget the server and its secret on this computer",
		Long: `logout ends the session of login --user or --link at the server, and removes the
file that login wrote. An API key stays good: tsugictl account key revoke.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, path, err := kept()
			if path == "" || err != nil && code.Of(err) != "TS7615" {
				return err
			}
			ending := c.end(cmd.Context())
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return command.FileProblem("TS1903", path, err)
			}
			if ending != nil { // the secret is gone from here all the same
				return ending
			}
			return a.Show("logout", struct {
				File string `json:"file"`
			}{path}, func() string { return "" })
		},
	}
}
