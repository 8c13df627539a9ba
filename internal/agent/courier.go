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

const (
	courierRetry = 5 * time.Second
	courierMost  = 10 * time.Minute
)

var errNothingStored = errors.New("the server stored none of the reports")

// courier delivers reports in order, each until the server has stored it. A
// report is forgotten only when the journal says that it is stored; one that
// is delivered twice has the same id.
func (a *Agent) courier(ctx context.Context) {
	wait := courierRetry
	for ctx.Err() == nil {
		sent, err := a.deliver(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			a.log.Debug("reports", "err", err)
			a.sleepCourier(ctx, jitter(wait), a.parcel)
			wait = min(2*wait, courierMost)
		case sent:
			wait = courierRetry // there may be more
		default:
			wait = courierRetry
			select {
			case <-a.journal.wake:
			case <-a.parcel:
			case <-ctx.Done():
			}
		}
	}
}

func (a *Agent) sleepCourier(ctx context.Context, d time.Duration, early <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-early:
	case <-ctx.Done():
	}
}

// wakeCourier says that the server answers.
func (a *Agent) wakeCourier() {
	select {
	case a.parcel <- struct{}{}:
	default:
	}
}

// deliver sends the oldest reports. It returns false without an error when
// there is nothing to do.
func (a *Agent) deliver(ctx context.Context) (bool, error) {
	var server Server
	a.see(func(m *moment) { server = m.server })
	s, _ := a.journal.view()
	if server == nil || len(s.Pending) == 0 {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	batch := parcel(s.Pending)
	stored, err := server.Reports(ctx, batch)
	if err != nil && refusedAs(err) && len(batch) > 1 {
		batch = batch[:1] // one of them is at fault: find out which
		stored, err = server.Reports(ctx, batch)
	}
	if err != nil && refusedAs(err) {
		// It would keep all that come after it from being delivered.
		a.log.Error("the server does not take a report", "report", batch[0].ID, "err", err)
		stored, err = []string{batch[0].ID}, nil
	}
	if err != nil {
		return false, err
	}
	if len(stored) == 0 {
		return false, errNothingStored
	}
	return true, a.journal.add(&Record{Sent: stored})
}

// refusedAs reports whether a server refuses what was sent, for what it is.
func refusedAs(err error) bool {
	c := code.Of(err)
	return c == "TS7601" || c == "TS7607"
}

// maxParcel bounds the bytes of one delivery, well below what a server takes.
const maxParcel = api.MaxBody / 2

// parcel is as many of the oldest reports as go into one delivery.
func parcel(pending []api.Report) []api.Report {
	size := 0
	for i, r := range pending {
		b, err := json.Marshal(r)
		if size += len(b); err != nil || i == api.MaxReports || i > 0 && size > maxParcel {
			return pending[:max(i, 1)]
		}
	}
	return pending
}
