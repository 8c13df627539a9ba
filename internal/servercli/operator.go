// SPDX-License-Identifier: Apache-2.0

package servercli

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/servercli/config"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newOperatorCommand(a *app) *cobra.Command {
	return command.Parent("operator", "Make and end operators' tokens without a running server",
		`operator works on the database itself, on the machine of the server: for the
day when the last operator's token is lost. From day to day, use tsugictl
operator, which asks the server and needs no access to its machine.`,
		newOperatorNewCommand(a), newOperatorLsCommand(a), newOperatorRevokeCommand(a))
}

func newOperatorNewCommand(a *app) *cobra.Command {
	var role string
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Make an operator and print its token once",
		Long: `new makes an operator. Its role is admin, who may do everything; reader, who may
look; or worker, for tsugi-server worker on another host.`,
		Example: "  tsugi-server operator new alice\n  tsugi-server operator new build-7 --role worker",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.operatorNew(cmd, args[0], role)
		},
	}
	cmd.Flags().StringVar(&role, "role", store.OperatorAdmin, "admin, reader or worker")
	return cmd
}

func (a *app) operatorNew(cmd *cobra.Command, name, role string) error {
	kind := api.OperatorCredential
	switch role {
	case store.OperatorAdmin, store.OperatorReader:
	case store.OperatorWorker:
		kind = api.WorkerCredential
	default:
		return command.Usage(cmd.CommandPath(), fmt.Sprintf("--role %q is none of admin, reader, worker", role))
	}
	if name == "" || len(name) > 100 {
		return command.Usage(cmd.CommandPath(), "a name has 1 to 100 characters")
	}
	return a.withStore(cmd, func(ctx context.Context, db *store.Store) error {
		made := api.OperatorMade{Secret: api.NewCredential(kind)}
		err := db.Update(ctx, func(tx *store.Tx) error {
			o, err := tx.CreateOperator(ctx, name, role, api.HashCredential(made.Secret))
			if err != nil {
				return err
			}
			made.Operator = api.Operator{ID: o.ID, Name: o.Name, Role: o.Kind, Created: o.Created}
			return tx.Audit(ctx, store.AuditEntry{Actor: localActor(), Action: "operator.create", Object: name, Detail: role})
		})
		if errors.Is(err, store.ErrConflict) {
			return code.New("TS7813", name, "")
		}
		if err != nil {
			return err
		}
		return a.Show("operator", made, func() string {
			return ui.Good("✓") + " " + ui.Bold(name) + " is " + article(role) + ". The token, shown this once:\n" + made.Secret
		})
	})
}

func article(role string) string {
	if role == store.OperatorAdmin {
		return "an " + role
	}
	return "a " + role
}

// localActor names who works on the database itself.
func localActor() string {
	if u, err := user.Current(); err == nil {
		return "local:" + u.Username
	}
	return "local"
}

func newOperatorLsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List the operators",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(cmd, func(ctx context.Context, db *store.Store) error {
				all, err := db.Operators(ctx)
				if err != nil {
					return err
				}
				list := api.List[api.Operator]{Items: []api.Operator{}}
				for _, o := range all {
					list.Items = append(list.Items, api.Operator{ID: o.ID, Name: o.Name, Role: o.Kind, Created: o.Created, Revoked: o.Revoked})
				}
				return a.Show("operators", list, func() string { return operatorsText(list.Items) })
			})
		},
	}
}

func operatorsText(all []api.Operator) string {
	var rows [][]string
	for _, o := range all {
		state := ui.Good("active")
		if o.Revoked != 0 {
			state = "revoked " + day(o.Revoked)
		}
		rows = append(rows, []string{o.ID, o.Name, o.Role, "since " + day(o.Created), state})
	}
	return ui.Table(nil, rows)
}

func day(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.DateOnly) }

func newOperatorRevokeCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "End an operator's token",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, db *store.Store) error {
				err := db.Update(ctx, func(tx *store.Tx) error {
					if err := tx.RevokeOperator(ctx, args[0]); err != nil {
						return err
					}
					return tx.Audit(ctx, store.AuditEntry{Actor: localActor(), Action: "operator.revoke", Object: args[0]})
				})
				if errors.Is(err, store.ErrNotFound) {
					return code.New("TS7814", args[0], "")
				}
				if err != nil {
					return err
				}
				return a.Show("operator", api.Operator{ID: args[0]}, func() string { return ui.Good("✓") + " the token of " + args[0] + " is worth nothing any more" })
			})
		},
	}
}

// withStore opens the database of the server, which may be running.
func (a *app) withStore(cmd *cobra.Command, f func(context.Context, *store.Store) error) error {
	c, err := a.load(cmd)
	if err != nil {
		return err
	}
	return a.withStoreOf(cmd.Context(), c, f)
}

func (a *app) withStoreOf(ctx context.Context, c *config.Config, f func(context.Context, *store.Store) error) error {
	db, err := store.Open(ctx, c.DSN())
	if err != nil {
		return err
	}
	return errors.Join(f(ctx, db), db.Close())
}
