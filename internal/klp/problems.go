// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"errors"

	"github.com/tsugi-project/tsugi/internal/code"
)

// ObjectError says which of the inputs a problem is about. Build and Place
// return one for each object that cannot be part of the live patch, joined, so
// that a caller with hundreds of them learns of all at once.
type ObjectError struct {
	Object string // "fs/ext4/mballoc.o"
	Err    error  // a *code.Problem
}

func (e *ObjectError) Error() string { return e.Err.Error() }

func (e *ObjectError) Unwrap() error { return e.Err }

// problems collects what is wrong with objects.
type problems []error

// add notes a problem of an object. What is no problem of the object itself is
// returned, and ends everything.
func (p *problems) add(object string, err error) error {
	if err == nil || code.Of(err) == "" {
		return err
	}
	*p = append(*p, &ObjectError{Object: object, Err: err})
	return nil
}

func (p problems) join() error {
	if len(p) == 1 {
		return p[0]
	}
	return errors.Join(p...)
}
