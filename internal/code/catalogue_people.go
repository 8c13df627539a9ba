// SPDX-License-Identifier: Apache-2.0

package code

// people are the problems of people: signing in, what they may do, and the
// audit log of what they did.
func people() []Entry {
	return []Entry{
		{"TS8201", KindError, "you are not signed in", "sign in again: the session ended, or there never was one"},
		{"TS8202", KindError, "your role does not allow this", "ask an admin of this server for a role that does"},
		{"TS8203", KindError, "your role does not reach this", "it is for some groups of machines: ask an admin for a role that reaches further"},
		{"TS8204", KindError, "the scopes of this API key do not allow this", "make a key with the scope that is named"},
		{"TS8205", KindError, "only a person can do this", "sign in to the console, or with tsugictl login --user"},
		{"TS8206", KindError, "prove again who you are", "give your password or use your passkey once more, and try again"},
		{"TS8207", KindError, "the name or the password is wrong", "try again; an admin can make a link for a new password"},
		{"TS8208", KindError, "too many wrong attempts", "wait as long as is said, or ask an admin to lift it"},
		{"TS8209", KindError, "this account is disabled", "ask an admin of this server"},
		{"TS8210", KindError, "a second factor is needed", "give the code of your authenticator, or a recovery code"},
		{"TS8211", KindError, "the code of the second factor is wrong", "check the clock of the device, and take the newest code: each is good once"},
		{"TS8212", KindError, "the link is not valid", "ask for another one: each is good once and for a short time"},
		{"TS8213", KindError, "the password can't be taken", "take a longer one: several words that belong together for you alone"},
		{"TS8214", KindError, "there is somebody of this name", "choose another name"},
		{"TS8215", KindError, "nobody could administer this server any more", "make another admin first"},
		{"TS8216", KindError, "the passkey was not accepted", "try again; use the address of the server that the passkey was made for"},
		{"TS8217", KindError, "the sign-in elsewhere was not accepted", "start again at this server's sign-in page; ask an admin whether you are known here"},
		{"TS8218", KindError, "the place to sign in elsewhere can't be used", "check its address, its id and its secret in the server's configuration"},
		{"TS8219", KindError, "the API key can't be made", "take a name, scopes and an end that are allowed"},
		{"TS8220", KindError, "the audit log was changed", "keep a copy of the database as it is; compare with an export or a backup of before"},
		{"TS8221", KindError, "the audit log is not the one that was noted", "keep a copy of the database as it is; compare with the export that the note is of"},
		{"TS8222", KindError, "the approval does not hold", "ask for another: each is for one thing, once, and for a limited time"},
		{"TS8223", KindError, "another person must approve this", "ask somebody else with the right to approve"},
		{"TS8224", KindError, "the roles are not understood", "give roles as viewer, operator, author, release-manager or admin, with groups after a colon: operator:web,db"},
		{"TS8225", KindError, "the second factor can't be changed so", "look at which second factors the account has"},
		{"TS8226", KindError, "there is no such person", "list the people, and check the name"},
		{"TS8227", KindError, "what you did was not done in time", "start again"},
		{"TS8228", KindError, "the account can't be as you want it", "correct what is named"},
		{"TS8229", KindError, "the request comes from a page of another site", "use the console at the address of this server"},
		{"TS8230", KindError, "this is not how to approve that", "ask for what the action is of: a live patch and its tier, a tier whose key changes, or the root"},
		{"TS8231", KindError, "live patches could reach the tier without a second person", "keep a tier before it, into which they are published, and none behind it; or have promotion need one person again, to which two agree: tsugictl approval actions"},
	}
}
