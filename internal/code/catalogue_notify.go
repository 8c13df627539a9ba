// SPDX-License-Identifier: Apache-2.0

package code

// notifications are the problems of declaring a fleet and of telling people.
func notifications() []Entry {
	return []Entry{
		{"TS8301", KindError, "the fleet file can't be read", "correct the line that is named; docs/fleet-file.md describes the file"},
		{"TS8302", KindError, "the fleet file holds what can't be", "correct what is named; docs/fleet-file.md describes the file"},
		{"TS8303", KindError, "the fleet file names what nobody has", "add it to the file, or correct the name"},
		{"TS8304", KindError, "the server can't become what the fleet file says", "change the file, or do what stands in the way first"},
		{"TS8311", KindError, "a notification was not delivered", "look at what the receiver says, and try the channel again"},
		{"TS8312", KindError, "a notification channel can't be as it is given", "correct what is named; docs/notifications.md describes channels"},
		{"TS8313", KindError, "the webhook is not from whom it should be", "compare the secret and the clocks of both sides"},
		{"TS8314", KindError, "the address is one that webhooks are not sent to", "name the receiver by an address of its own, or allow this one in the server's configuration"},
		{"TS8315", KindError, "the mail server offers no encryption", "use a mail server with STARTTLS or TLS; messages tell where machines are vulnerable"},
	}
}
