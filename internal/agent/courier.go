// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
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
	stored, err := server.Reports(ctx, s.Pending[:min(len(s.Pending), api.MaxReports)])
	if err != nil {
		return false, err
	}
	if len(stored) == 0 {
		return false, errNothingStored
	}
	return true, a.journal.add(&Record{Sent: stored})
}
