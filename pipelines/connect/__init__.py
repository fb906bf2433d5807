"""First contact: what the vendor's file says and what the live API shows, turned into an override of the contract that explains itself.

`learn` is the order of a contact and `probe` its only I/O; `described`, `matching`, `honoured` and `places` decide, without I/O; `paging`, `changes`, `belonging`
and `shapes` each settle one question by asking through `probe`; `findings` is the value that flows; `override` writes the file; `compare` holds a contract
against a newer vendor file. No sync imports this package.
"""
