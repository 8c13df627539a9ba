// SPDX-License-Identifier: Apache-2.0

package agentcli

import (
	"context"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/ui"
)

type enrollFlags struct {
	server, token, tokenFile, ca, root string
}

func newEnrollCommand(a *app) *cobra.Command {
	var o enrollFlags
	cmd := &cobra.Command{
		Use:   "enroll [WORD]",
		Short: "Enrol this machine with a server",
		Long: `enroll makes this machine known to a server. WORD is what tsugictl token new
printed: it holds the server's address, the token, and the digests of the
server's CA and of its root of trust, which are checked before either is
trusted. "-" reads it from standard input.

Without a word, --server, a token and --root-file say the same; --ca-file is
needed unless this system trusts the server's certificate already. Enrolling
again keeps the machine's place on the same server.`,
		Example: "  tsugi enroll tsugi1.eyJ1Ijoi…\n  tsugi enroll --server https://tsugi.example:8443 --token-file token --ca-file ca.pem --root-file root.json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.enrollment(o, args)
			if err != nil {
				return err
			}
			return a.change(cmd.Context(), func(ctx context.Context, c agent.Control) error { return a.enroll(ctx, c, e) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.server, "server", "", "address of the server")
	f.StringVar(&o.token, "token", "", "enrolment token (others may see it in the list of processes: better --token-file)")
	f.StringVar(&o.tokenFile, "token-file", "", "file with the enrolment token; - is standard input")
	f.StringVar(&o.ca, "ca-file", "", "certificate of the server's CA (PEM)")
	f.StringVar(&o.root, "root-file", "", "the server's first root of trust (root.json)")
	return cmd
}

func (a *app) enrollment(o enrollFlags, args []string) (agent.Enrollment, error) {
	if len(args) == 1 {
		if o != (enrollFlags{}) {
			return agent.Enrollment{}, command.Usage("tsugi enroll", "give a word or flags, not both")
		}
		word := args[0]
		if word == "-" {
			b, err := a.ReadFile(word)
			if err != nil {
				return agent.Enrollment{}, err
			}
			word = string(b)
		}
		return agent.ParseEnrollment(word)
	}
	if o.server == "" || o.root == "" || (o.token == "") == (o.tokenFile == "") {
		return agent.Enrollment{}, command.Usage("tsugi enroll", "a word is needed, or --server, --root-file and one of --token and --token-file")
	}
	server, err := agent.ServerURL(o.server)
	if err != nil {
		return agent.Enrollment{}, err
	}
	e := agent.Enrollment{Server: server, Token: agent.Credential(o.token)}
	if o.tokenFile != "" {
		b, err := a.ReadFile(o.tokenFile)
		if err != nil {
			return e, err
		}
		e.Token = agent.Credential(strings.TrimSpace(string(b)))
	}
	if e.Root, err = os.ReadFile(o.root); err != nil {
		return e, command.FileProblem("TS1902", o.root, err)
	}
	if o.ca != "" {
		if e.CA, err = os.ReadFile(o.ca); err != nil {
			return e, command.FileProblem("TS1902", o.ca, err)
		}
	}
	return e, nil
}

func (a *app) enroll(ctx context.Context, c agent.Control, e agent.Enrollment) error {
	r, err := c.Enroll(ctx, e)
	if err != nil {
		return err
	}
	return a.Show("enrolled", r, func() string {
		s := ui.Good("✓") + " enrolled with " + ui.Bold(r.Server) + "\n" + ui.Indent(ui.Pairs(
			[2]string{"machine", r.Machine}, [2]string{"tier", r.Tier}, [2]string{"group", r.Group},
		), 2)
		if _, direct := c.(agent.Direct); direct {
			s += "  " + ui.Dim("○ the agent does not run yet: systemctl enable --now tsugi") + "\n"
		}
		return s
	})
}

func newUnenrollCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "unenroll",
		Short: "End this machine's enrolment",
		Long: `unenroll tells the server that this machine leaves, and forgets its credential,
its keys and its cached live patches. What is applied stays in the kernel until
the next boot; tsugi revert takes it out before.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.change(cmd.Context(), func(ctx context.Context, c agent.Control) error {
				if err := c.Leave(ctx, force); err != nil {
					return err
				}
				return a.Show("unenrolled", struct{}{}, func() string { return ui.Good("✓") + " this machine is not enrolled any more\n" })
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "leave even if the server does not answer")
	return cmd
}
