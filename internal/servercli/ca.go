// SPDX-License-Identifier: Apache-2.0

package servercli

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/server/tlsconf"
	"github.com/tsugi-project/tsugi/internal/ui"
)

// caResult is what is known of the certificates.
type caResult struct {
	CA      string   `json:"ca_sha256"`
	PEM     string   `json:"ca_pem"`
	CAUntil string   `json:"ca_until"`
	Names   []string `json:"names"`
	Until   string   `json:"certificate_until"`
}

func newCACommand(a *app) *cobra.Command {
	return command.Parent("ca", "Show the server's certificates, or renew the server's now",
		`ca is about the certificate authority of this service (tls.mode own). Machines
and operators trust it by its digest. The server's own certificate, which it
signs, is good for 90 days and renewed by the server when a third of that is
left; machines need to know nothing of it.`,
		newCAShowCommand(a), newCARenewCommand(a))
}

func newCAShowCommand(a *app) *cobra.Command {
	var asPEM bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the authority and the server's certificate",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ca(cmd, false, asPEM)
		},
	}
	cmd.Flags().BoolVar(&asPEM, "pem", false, "print the authority's certificate as PEM and nothing else")
	return cmd
}

func newCARenewCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "renew",
		Short: "Make a new key and certificate for the server now",
		Long: `renew makes a new key and certificate for the server, for the day when its key
may have been read by somebody. A running server takes it within a minute;
machines and operators notice nothing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.ca(cmd, true, false) },
	}
}

func (a *app) ca(cmd *cobra.Command, renew, asPEM bool) error {
	c, err := a.load(cmd)
	if err != nil {
		return err
	}
	if c.TLS.Mode != "own" {
		return code.New("TS7815", "tls.mode is "+c.TLS.Mode, "")
	}
	if renew {
		own, err := tlsconf.OpenOwn(c.Path(c.TLS.Dir), certificateNames(c), slog.New(slog.DiscardHandler), time.Now)
		if err != nil {
			return err
		}
		if err := own.Renew(); err != nil {
			return err
		}
	}
	ca, err := tlsconf.OpenCA(c.Path(c.TLS.Dir))
	if err != nil {
		return err
	}
	if asPEM && !a.Term.JSON() {
		a.Term.Print(string(ca.PEM()))
		return nil
	}
	r := caResult{CA: ca.Digest(), PEM: string(ca.PEM()), CAUntil: ca.Certificate().NotAfter.UTC().Format(time.RFC3339), Names: []string{}}
	if leaf, err := tlsconf.ReadOwn(c.Path(c.TLS.Dir)); err == nil {
		r.Until = leaf.NotAfter.UTC().Format(time.RFC3339)
		for _, ip := range leaf.IPAddresses {
			r.Names = append(r.Names, ip.String())
		}
		r.Names = append(r.Names, leaf.DNSNames...)
	}
	return a.Show("ca", r, func() string { return caText(r) })
}

func caText(r caResult) string {
	server := "is made when the server starts"
	if r.Until != "" {
		server = fmt.Sprintf("until %s, for %v", r.Until, r.Names)
	}
	return ui.Table(nil, [][]string{
		{"authority", "until " + r.CAUntil},
		{"SHA-256", r.CA},
		{"server", server},
	})
}
