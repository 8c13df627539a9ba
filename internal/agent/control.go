// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"

	"github.com/tsugi-project/tsugi/internal/api"
)

// Control is what a person can ask of the agent: of one that runs, through
// its socket (Dial), or of one that was opened for the purpose (Direct).
type Control interface {
	Status(ctx context.Context) (*Status, error)
	History(ctx context.Context) ([]api.Report, error)
	Fixed(ctx context.Context) (*Fixed, error)
	Enroll(ctx context.Context, e Enrollment) (*Enrolled, error)
	Leave(ctx context.Context, force bool) error
	Refresh(ctx context.Context) error
	Revert(ctx context.Context) (*api.Patch, error)
	RevertPackage(ctx context.Context, name string) (*api.Patch, error)
	Hold(ctx context.Context, on bool) error
	Clear(ctx context.Context, what string) ([]string, error)
	ApplyFile(ctx context.Context, file []byte, local bool) (*api.Patch, error)
	ApplyBundle(ctx context.Context, file []byte) ([]api.Patch, error)
}

// Enrolled is what a person may see of an enrolment.
type Enrolled struct {
	Machine string `json:"machine"`
	Server  string `json:"server"`
	Tier    string `json:"tier"`
	Group   string `json:"group,omitempty"`
}

// Direct is the Control of an agent in this process.
type Direct struct{ A *Agent }

// Status is the agent's.
func (d Direct) Status(context.Context) (*Status, error) {
	s := d.A.Status()
	return &s, nil
}

// History is the agent's.
func (d Direct) History(context.Context) ([]api.Report, error) { return d.A.History(), nil }

// Fixed is the agent's.
func (d Direct) Fixed(context.Context) (*Fixed, error) { return d.A.Fixed() }

// Enroll hides the credential.
func (d Direct) Enroll(ctx context.Context, e Enrollment) (*Enrolled, error) {
	m, err := d.A.Enroll(ctx, e)
	if err != nil {
		return nil, err
	}
	return &Enrolled{m.ID, m.Server, m.Tier, m.Group}, nil
}

// Leave ends the enrolment.
func (d Direct) Leave(ctx context.Context, force bool) error { return d.A.Leave(ctx, force) }

// Refresh checks in.
func (d Direct) Refresh(ctx context.Context) error { return d.A.Refresh(ctx) }

// Revert takes out what is applied.
func (d Direct) Revert(ctx context.Context) (*api.Patch, error) { return d.A.Revert(ctx) }

// RevertPackage takes out what is applied of a package.
func (d Direct) RevertPackage(ctx context.Context, name string) (*api.Patch, error) {
	return d.A.RevertPackage(ctx, name)
}

// Hold stops changes.
func (d Direct) Hold(ctx context.Context, on bool) error { return d.A.Hold(ctx, on) }

// Clear ends a quarantine.
func (d Direct) Clear(ctx context.Context, what string) ([]string, error) {
	return d.A.Clear(ctx, what)
}

// ApplyFile applies a file.
func (d Direct) ApplyFile(ctx context.Context, file []byte, local bool) (*api.Patch, error) {
	return d.A.ApplyFile(ctx, file, local)
}

// ApplyBundle applies an offline bundle.
func (d Direct) ApplyBundle(ctx context.Context, file []byte) ([]api.Patch, error) {
	return d.A.ApplyBundle(ctx, file)
}
