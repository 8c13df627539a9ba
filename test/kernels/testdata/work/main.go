// SPDX-License-Identifier: Apache-2.0

// Work uses a Linux system in many ways at once, as root in a virtual machine:
// file systems, network, processes, memory. It runs for the time that it is
// told, checks what it reads against what it wrote, and prints as JSON how
// often it did each kind of work, with the first error of each. It exits 1 when
// there was one.
//
//	work SECONDS DIRECTORY...
//
// Each directory is a file system of its own, to be written to. A kind that the
// kernel has no module for is left out and said so.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// job is one kind of work; n counts its rounds.
type job struct {
	name string
	do   func(n int) error
}

// done is what became of a kind of work.
type done struct {
	Rounds int    `json:"rounds"`
	Error  string `json:"error,omitempty"`
	Absent string `json:"absent,omitempty"` // why it was not done at all
}

// errAbsent says that this kernel, as it is now, can't do a kind of work.
var errAbsent = errors.New("not here")

func main() {
	if len(os.Args) > 1 && os.Args[1] == child {
		beChild()
		return
	}
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: work SECONDS DIRECTORY...")
		os.Exit(2)
	}
	seconds, err := strconv.Atoi(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	jobs := []job{
		{"processes", processes}, {"threads", threads}, {"memory", memory}, {"events", events}, {"namespaces", namespaces},
		{"mounts", mounts}, {"proc", readProc}, {"loopback", loopback}, {"unix sockets", unixSockets},
		{"dummy", dummy}, {"veth", veth}, {"bridge", bridge},
	}
	for _, dir := range os.Args[2:] {
		jobs = append(jobs, job{"files " + dir, func(n int) error { return files(dir, n) }})
	}
	if err := setUp("lo"); err != nil {
		fmt.Fprintln(os.Stderr, "lo:", err)
		os.Exit(2)
	}
	results := work(jobs, time.Now().Add(time.Duration(seconds)*time.Second))
	_ = json.NewEncoder(os.Stdout).Encode(results)
	for _, r := range results {
		if r.Error != "" {
			os.Exit(1)
		}
	}
}

// work does each job again and again, side by side, until the end.
func work(jobs []job, end time.Time) map[string]*done {
	results := map[string]*done{}
	var all sync.WaitGroup
	for _, j := range jobs {
		d := &done{}
		results[j.name] = d
		all.Go(func() {
			for ; time.Now().Before(end); d.Rounds++ {
				switch err := j.do(d.Rounds); {
				case errors.Is(err, errAbsent):
					d.Absent = err.Error()
					return
				case err != nil:
					d.Error = err.Error()
					return
				}
				time.Sleep(10 * time.Millisecond) // of two processors, each gets its turn
			}
		})
	}
	all.Wait()
	return results
}

// absent turns the error of a kernel that lacks something into errAbsent.
func absent(err error) error {
	for _, e := range []error{unix.ENODEV, unix.EOPNOTSUPP, unix.ENOSYS, unix.EAFNOSUPPORT} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", errAbsent, err)
		}
	}
	return err
}
