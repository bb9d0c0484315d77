package observe

// A Code is a reason why meshd itself answered a call. Callers see its name in
// the header meshd-error and its sentence in the body.
type Code struct {
	Name     string
	Status   int    // of the HTTP response
	Sentence string // what is wrong
	Remedy   string // what to do about it
	// Untouched says that no application has seen the call, so that it can be
	// made again elsewhere whatever it asks.
	Untouched bool
}

// The codes. Their names are part of the interface: metrics carry them, and
// people look them up.
var (
	BadRequest = &Code{Name: "bad-request", Status: 400,
		Sentence: "The request is not valid HTTP, or can be read in more than one way.",
		Remedy:   "Mend the client; what exactly is wrong stands after the colon. Nothing ambiguous is forwarded, because two servers could read it differently."}
	AmbiguousPath = &Code{Name: "ambiguous-path", Status: 400,
		Sentence: "The path can be read in more than one way, and rules of this service depend on it.",
		Remedy:   "Send the path without dot segments, empty segments, backslashes, semicolons or encoded separators, or take the path out of the service's routes and policies."}
	BodyTimeout = &Code{Name: "body-timeout", Status: 408,
		Sentence: "The rest of the request did not arrive in time.",
		Remedy:   "See whether the client stalls while sending, or raise timeout.idle of the service."}
	HeadTimeout = &Code{Name: "head-timeout", Status: 408,
		Sentence: "The header of the request took longer than 10 seconds to arrive.",
		Remedy:   "See whether the client stalls while sending."}
	TargetTooLong = &Code{Name: "target-too-long", Status: 414,
		Sentence: "The request line is longer than 8 KiB.",
		Remedy:   "Move what is in the query into the body."}
	Expectation = &Code{Name: "expectation", Status: 417,
		Sentence: "The request expects something else than 100-continue.",
		Remedy:   "Remove the Expect header from the client's request."}
	HeadTooLarge = &Code{Name: "head-too-large", Status: 431,
		Sentence: "The header is larger than 64 KiB, has more than 100 fields, or a line of more than 8 KiB.",
		Remedy:   "Send less in the header; cookies are the usual cause."}
	NotImplemented = &Code{Name: "not-implemented", Status: 501,
		Sentence: "CONNECT and transfer codings other than chunked are not forwarded.",
		Remedy:   "Call the service directly with its own methods; declare it with protocol tcp if it is no HTTP service."}
	Version = &Code{Name: "version", Status: 505,
		Sentence: "Only HTTP/1.1, HTTP/1.0 and, by prior knowledge, HTTP/2 are spoken here.",
		Remedy:   "Have the client use HTTP/1.1."}

	Cancelled = &Code{Name: "cancelled", Status: 499,
		Sentence: "The caller left before it was answered.",
		Remedy:   "See whether the client has a shorter time limit than the called application needs."}

	Denied = &Code{Name: "denied", Status: 403,
		Sentence: "A policy of the called service refuses this caller.",
		Remedy:   "Ask who runs the called service for a rule that allows the caller; its policies are shown by: meshd get policy."}

	NoConfiguration = &Code{Name: "no-configuration", Status: 503, Untouched: true,
		Sentence: "This agent has no configuration for the service.",
		Remedy:   "See with meshd status whether the agent has reached a server, and with meshd service list whether the service still exists."}
	NotHere = &Code{Name: "not-here", Status: 503, Untouched: true,
		Sentence: "The called agent no longer hosts the instance.",
		Remedy:   "Nothing, if it lasts for a moment only: callers learn of it within seconds. Otherwise see meshd status on both hosts."}
	NoEndpoint = &Code{Name: "no-endpoint", Status: 503, Untouched: true,
		Sentence: "No instance of the service is ready.",
		Remedy:   "See with meshd service list which instances there are and whether their checks pass."}
	ConnectFailed = &Code{Name: "connect-failed", Status: 503, Untouched: true,
		Sentence: "No connection to the agent of the called instance came about.",
		Remedy:   "See whether the called host is up and its mTLS port (7443 by default) can be reached from here."}
	AppConnectFailed = &Code{Name: "app-connect-failed", Status: 503, Untouched: true,
		Sentence: "The application of the called instance does not take connections.",
		Remedy:   "See on the called host whether the application runs and listens on the declared port on 127.0.0.1."}
	Identity = &Code{Name: "identity", Status: 502, Untouched: true,
		Sentence: "The called side did not prove to be the service that was meant.",
		Remedy:   "See whether another program has taken the address of the called agent, and with meshd status whether clocks and certificates are right."}
	NoCertificate = &Code{Name: "no-certificate", Status: 503, Untouched: true,
		Sentence: "This host has no valid certificate for the calling service.",
		Remedy:   "See with meshd status whether the agent has reached a server; certificates are issued once it has."}

	Reset = &Code{Name: "reset", Status: 502,
		Sentence: "The connection to the called instance ended before it answered.",
		Remedy:   "See in the log of the called application whether it crashed or gave up on the request."}
	BadResponse = &Code{Name: "bad-response", Status: 502,
		Sentence: "The called application's response is not valid HTTP.",
		Remedy:   "Mend the called application; the log of its agent says what exactly is wrong."}
	ResponseTimeout = &Code{Name: "response-timeout", Status: 504,
		Sentence: "The called instance did not answer in time.",
		Remedy:   "See why the called application is slow, or raise timeout.response or retry.per_try of the service."}
	RequestTimeout = &Code{Name: "request-timeout", Status: 504,
		Sentence: "The whole request took longer than it may.",
		Remedy:   "See why the called application is slow, or raise timeout.request of the service or route."}
)

// Codes are all there are, for tools that explain them.
func Codes() []*Code {
	return []*Code{
		BadRequest, AmbiguousPath, Denied, BodyTimeout, HeadTimeout, TargetTooLong, Expectation, HeadTooLarge,
		Cancelled, NotImplemented, Identity, Reset, BadResponse, NoConfiguration, NotHere, NoEndpoint,
		ConnectFailed, AppConnectFailed, NoCertificate, ResponseTimeout, RequestTimeout, Version,
	}
}

// Lookup finds the code of that name, or nil.
func Lookup(name string) *Code {
	for _, c := range Codes() {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// A Problem is why a call failed. Err says more, to those who run the mesh.
type Problem struct {
	Code *Code
	Err  error
}

func (p *Problem) Error() string {
	if p.Err == nil {
		return p.Code.Name
	}
	return p.Code.Name + ": " + p.Err.Error()
}

// Sentence tells callers what is wrong, as one line. Of what went wrong inside
// the mesh they learn the kind only.
func (p *Problem) Sentence() string {
	s := p.Code.Sentence
	if p.Err != nil && p.Code.Status == 400 {
		return s[:len(s)-1] + ": " + p.Err.Error() + ".\n"
	}
	return s + "\n"
}

func (p *Problem) Unwrap() error { return p.Err }
