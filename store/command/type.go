package command

import "google.golang.org/protobuf/proto"

// A Type says what a log entry is. The numbers are on disks: none ever changes
// its meaning or is used again.
type Type uint16

const (
	TypeInitCluster       Type = 1
	TypePutServer         Type = 2
	TypeRemoveServer      Type = 3
	TypePutNode           Type = 4
	TypeTakeLease         Type = 5
	TypeEndLease          Type = 6
	TypeRemoveNode        Type = 7
	TypeSetInstances      Type = 8
	TypeSetResources      Type = 9
	TypePutToken          Type = 10
	TypeRemoveToken       Type = 11
	TypePutAuthority      Type = 12
	TypeAudited           Type = 13
	TypeUpdateServer      Type = 14
	TypeSetFeatureLevel   Type = 15
	TypeRecover           Type = 16
	TypePutAccessToken    Type = 17
	TypeRemoveAccessToken Type = 18
	TypeChangeAuthority   Type = 19
	TypeSetGossipKeys     Type = 20
	TypeReap              Type = 21
	TypeRestoreState      Type = 22
)

// New gives an empty command of that type, nil for a type that is not known.
func (t Type) New() proto.Message {
	switch t {
	case TypeInitCluster:
		return &InitCluster{}
	case TypePutServer:
		return &PutServer{}
	case TypeRemoveServer:
		return &RemoveServer{}
	case TypePutNode:
		return &PutNode{}
	case TypeTakeLease:
		return &TakeLease{}
	case TypeEndLease:
		return &EndLease{}
	case TypeRemoveNode:
		return &RemoveNode{}
	case TypeSetInstances:
		return &SetInstances{}
	case TypeSetResources:
		return &SetResources{}
	case TypePutToken:
		return &PutToken{}
	case TypeRemoveToken:
		return &RemoveToken{}
	case TypePutAuthority:
		return &PutAuthority{}
	case TypeAudited:
		return &Audited{}
	case TypeUpdateServer:
		return &UpdateServer{}
	case TypeSetFeatureLevel:
		return &SetFeatureLevel{}
	case TypeRecover:
		return &Recover{}
	case TypePutAccessToken:
		return &PutAccessToken{}
	case TypeRemoveAccessToken:
		return &RemoveAccessToken{}
	case TypeChangeAuthority:
		return &ChangeAuthority{}
	case TypeSetGossipKeys:
		return &SetGossipKeys{}
	case TypeReap:
		return &Reap{}
	case TypeRestoreState:
		return &RestoreState{}
	}
	return nil
}

// TypeOf gives the type of a command, 0 for a message that is none.
func TypeOf(msg proto.Message) Type {
	switch msg.(type) {
	case *InitCluster:
		return TypeInitCluster
	case *PutServer:
		return TypePutServer
	case *RemoveServer:
		return TypeRemoveServer
	case *PutNode:
		return TypePutNode
	case *TakeLease:
		return TypeTakeLease
	case *EndLease:
		return TypeEndLease
	case *RemoveNode:
		return TypeRemoveNode
	case *SetInstances:
		return TypeSetInstances
	case *SetResources:
		return TypeSetResources
	case *PutToken:
		return TypePutToken
	case *RemoveToken:
		return TypeRemoveToken
	case *PutAuthority:
		return TypePutAuthority
	case *Audited:
		return TypeAudited
	case *UpdateServer:
		return TypeUpdateServer
	case *SetFeatureLevel:
		return TypeSetFeatureLevel
	case *Recover:
		return TypeRecover
	case *PutAccessToken:
		return TypePutAccessToken
	case *RemoveAccessToken:
		return TypeRemoveAccessToken
	case *ChangeAuthority:
		return TypeChangeAuthority
	case *SetGossipKeys:
		return TypeSetGossipKeys
	case *Reap:
		return TypeReap
	case *RestoreState:
		return TypeRestoreState
	}
	return 0
}

// Name is the command's name as logs and metrics show it, such as "PutNode".
func Name(msg proto.Message) string {
	if msg == nil {
		return "unknown"
	}
	return string(msg.ProtoReflect().Descriptor().Name())
}
