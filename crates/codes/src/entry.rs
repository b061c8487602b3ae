//! What the table of codes becomes: the type of a code, and what each one says.

macro_rules! codes {
    ($($name:ident = $text:literal, $exit:ident $(, $http:literal)?:
        $explanation:literal, $hint:literal;)*) => {
        /// A stable error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $explanation] $name,)*
        }

        impl Code {
            /// All codes, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code as text.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The status with which a command exits, unless the protocol rejected a transaction
            /// with this code: that is always [`Exit::Rejected`].
            pub const fn exit(self) -> Exit {
                match self { $(Self::$name => Exit::$exit,)* }
            }

            /// The HTTP status with which a node answers, if it ever answers with this code.
            pub const fn http_status(self) -> Option<u16> {
                match self { $(Self::$name => codes!(@http $($http)?),)* }
            }

            /// What it means.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$name => $explanation,)* }
            }

            /// What to do about it.
            pub const fn hint(self) -> &'static str {
                match self { $(Self::$name => $hint,)* }
            }
        }
    };
    (@http) => { None };
    (@http $http:literal) => { Some($http) };
}

pub(crate) use codes;
