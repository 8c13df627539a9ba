// SPDX-License-Identifier: Apache-2.0

// Package console holds the test of the console as people use it: a real
// tsugi-server with a small fleet in every state that there is, and Debian's
// chromium that goes through each page (web/console/look.mjs), at the width of
// a desk and of a phone, in each language.
//
// Beside it: the ways to come in that need a browser (web/console/signin.mjs), and
// the story of the demo (web/console/story.mjs).
//
// It needs chromium, node and the modules of web/console (npm ci); where they
// are not there it is skipped and says so. With TSUGI_CONSOLE_SHOTS=DIR the
// pictures are kept there. With TSUGI_CONSOLE_STAY=1 the server stays until it
// is interrupted, and prints its address and token, for a person to look.
package console
