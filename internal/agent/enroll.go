// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
)

// Enroll makes this machine known to a server. An earlier enrolment of this
// very machine keeps its id there.
func (a *Agent) Enroll(ctx context.Context, e Enrollment) (*Machine, error) {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	host, err := a.host(ctx)
	if err != nil {
		return nil, err
	}
	secret, recipient, err := a.opts.Crypt.NewIdentity()
	if err != nil {
		return nil, err
	}
	req := api.EnrollRequest{
		Token: string(e.Token), MachineID: host.MachineID, Hostname: host.Hostname, Recipient: recipient,
		Agent: a.opts.Version, OS: host.OS, Kernel: host.Kernel,
	}
	var old *Machine
	a.see(func(m *moment) { old = m.machine })
	if old != nil && old.MachineID == host.MachineID && old.Server == e.Server {
		req.Previous = string(old.Credential)
	}
	e.Fresh = old == nil
	// What can't be kept is not asked for: an enrolment that is lost takes a
	// place on the server.
	if err := a.disk.WriteFile(identityName+".new", []byte(secret+"\n")); err != nil {
		return nil, err
	}
	m, err := a.opts.Link.Enroll(ctx, e, req)
	if err != nil {
		return nil, errors.Join(err, a.disk.Remove(identityName+".new"))
	}
	m.Schema, m.MachineID, m.Enrolled = 1, host.MachineID, time.Now().UnixMilli()
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	// The order: without its identity an enrolment is useless, and an identity
	// without its enrolment is harmless. What was cached for the old identity
	// can't be opened any more, and is fetched again.
	if err := errors.Join(
		a.disk.WriteFile(identityName, []byte(secret+"\n")),
		a.disk.WriteFile(machineName, append(b, '\n')),
		a.disk.Remove(identityName+".new"),
	); err != nil {
		return nil, err
	}
	a.see(func(now *moment) {
		now.machine, now.machineErr, now.renew = m, nil, true
		now.server, now.source, now.linkErr = nil, nil, nil
		now.assignment, now.etag, now.checkErr, now.indexErr = nil, "", nil, nil
		now.index, now.indexed = nil, time.Time{}
		now.packages, now.catalogue, now.catalogueErr = nil, nil, nil
		now.answered, now.tried = time.Time{}, time.Time{}
	})
	if err := a.event(host, "enrolled with "+m.Server); err != nil {
		return nil, err
	}
	a.Kick()
	return m, nil
}

// Leave ends the enrolment. Without force the server has to hear of it.
func (a *Agent) Leave(ctx context.Context, force bool) error {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	var known bool
	a.see(func(m *moment) { known = m.machine != nil || m.machineErr != nil })
	if !known {
		return code.New("TS9416", "", "")
	}
	host, err := a.host(ctx)
	if err != nil {
		return err
	}
	if a.link() {
		var server Server
		a.see(func(m *moment) { server = m.server })
		limited, cancel := context.WithTimeout(ctx, askLimit)
		defer cancel()
		if err := server.Leave(limited); err != nil && !force {
			return code.New("TS9417", "", "").With(err)
		}
	} else if !force {
		var why error
		a.see(func(m *moment) { why = errors.Join(m.linkErr, m.machineErr) })
		return code.New("TS9417", "", "").With(why)
	}
	if err := errors.Join(a.disk.Remove(machineName), a.disk.Remove(identityName), a.disk.Remove(indexName), a.opts.Link.Forget()); err != nil {
		return err
	}
	a.forgetCache()
	a.see(func(m *moment) {
		m.machine, m.machineErr, m.server, m.source, m.linkErr = nil, nil, nil, nil, nil
		m.assignment, m.etag, m.checkErr, m.index, m.indexErr = nil, "", nil, nil, nil
		m.packages, m.catalogue, m.catalogueErr = nil, nil, nil
	})
	return a.event(host, "left its server")
}

// forgetCache drops the cached live patches. What is applied keeps its card,
// which says what it fixes.
func (a *Agent) forgetCache() {
	s, _ := a.journal.view()
	keep := ""
	if s.Current != nil {
		keep = cardFile(s.Current.Patch.ID)
	}
	names, err := a.disk.List(patchDir)
	if err != nil {
		return
	}
	for _, n := range names {
		if f := patchDir + "/" + n; f != keep {
			_ = a.disk.Remove(f) // unreadable from now on, and no harm
		}
	}
}
