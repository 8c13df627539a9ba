// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"strconv"

	"github.com/tsugi-project/tsugi/internal/api"
)

// Status asks for it.
func (l *Local) Status(ctx context.Context) (*Status, error) {
	return do[*Status](ctx, l, "GET", "/v1/status", nil)
}

// History asks for what happened last.
func (l *Local) History(ctx context.Context) ([]api.Report, error) {
	return do[[]api.Report](ctx, l, "GET", "/v1/history", nil)
}

// Fixed asks for what is fixed live.
func (l *Local) Fixed(ctx context.Context) (*Fixed, error) {
	return do[*Fixed](ctx, l, "GET", "/v1/fixed", nil)
}

// Enroll has the agent enrol.
func (l *Local) Enroll(ctx context.Context, e Enrollment) (*Enrolled, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	return do[*Enrolled](ctx, l, "POST", "/v1/enroll", bytes.NewReader(b))
}

// Leave has the agent leave its server.
func (l *Local) Leave(ctx context.Context, force bool) error {
	_, err := do[nothing](ctx, l, "POST", "/v1/leave?force="+strconv.FormatBool(force), nil)
	return err
}

// Refresh has the agent check in.
func (l *Local) Refresh(ctx context.Context) error {
	_, err := do[nothing](ctx, l, "POST", "/v1/refresh", nil)
	return err
}

// Revert has the agent take out what is applied.
func (l *Local) Revert(ctx context.Context) (*api.Patch, error) {
	return do[*api.Patch](ctx, l, "POST", "/v1/revert", nil)
}

// RevertPackage has the agent take out what is applied of a package.
func (l *Local) RevertPackage(ctx context.Context, name string) (*api.Patch, error) {
	return do[*api.Patch](ctx, l, "POST", "/v1/revert?package="+url.QueryEscape(name), nil)
}

// Hold has the agent stop changes, or go on.
func (l *Local) Hold(ctx context.Context, on bool) error {
	_, err := do[nothing](ctx, l, "POST", "/v1/hold?on="+strconv.FormatBool(on), nil)
	return err
}

// Clear has the agent end a quarantine.
func (l *Local) Clear(ctx context.Context, what string) ([]string, error) {
	return do[[]string](ctx, l, "POST", "/v1/clear?what="+url.QueryEscape(what), nil)
}

// ApplyFile has the agent apply a file.
func (l *Local) ApplyFile(ctx context.Context, file []byte, local bool) (*api.Patch, error) {
	return do[*api.Patch](ctx, l, "POST", "/v1/apply?local="+strconv.FormatBool(local), bytes.NewReader(file))
}

// ApplyBundle has the agent apply an offline bundle.
func (l *Local) ApplyBundle(ctx context.Context, file []byte) ([]api.Patch, error) {
	return do[[]api.Patch](ctx, l, "POST", "/v1/bundle", bytes.NewReader(file))
}
