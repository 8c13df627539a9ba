// SPDX-License-Identifier: Apache-2.0

// Goes through the console of a server with a browser, as a person would, and
// fails on what must not be: an error in the browser's console, a request to
// anywhere else, what the page's policy refused, a page that is wider than a
// phone, what axe finds. test/console starts the server.
//
//   TSUGI_TOKEN=tso_… TSUGI_LINK=https://…#… [TSUGI_LOOK_ALL=1] node look.mjs https://127.0.0.1:8443 [DIRECTORY-FOR-PICTURES]
//
// The link is that of the first admin. Without TSUGI_LOOK_ALL the gallery is of
// the two ways that differ most.
import { live, policy, story } from './look/day.mjs';
import { gallery } from './look/gallery.mjs';
import { run } from './look/kit.mjs';
import { account, login, reader } from './look/people.mjs';

await run([login, gallery, account, story, live, reader, policy]);
