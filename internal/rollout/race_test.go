// SPDX-License-Identifier: Apache-2.0

//go:build race

package rollout

// There is not one goroutine in this package: the race detector only makes it
// slow. What a live patch may reach of a fleet does not depend on its size.
const (
	large      = 20_000 // machines of a fleet
	manyFleets = 200
	goodFleets = 2
)
