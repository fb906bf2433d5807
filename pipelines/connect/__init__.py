"""First contact: what the vendor's file says and what the live API shows, turned into an override of the contract that explains itself.

`learn` is the order of a contact, `way_in` its token, `probe` all that it asks; `described`, `matching`, `honoured` and `places` decide, without I/O;
`paging`, `ordering`, `changes`, `belonging`, `shapes` and `people` each settle one question by asking through `probe`; `findings` is the value that flows;
`override` writes the text and `contact` the file; `compare`, with `asking` and `answering`, holds a contract against a newer vendor file. No sync imports
this package.
"""
